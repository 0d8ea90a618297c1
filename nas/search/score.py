"""The challenge's score: quality and runtime in one number.

Source: Ignatov et al., arXiv 2105.07809 §2.5. It reproduces all ten rows of Table 1 (tests/search/test_score.py).
"""

FAST_S = 0.2
CLIP_S = (0.03, 5.0)
FAST_ALPHA = 20.0
SLOW_ALPHA = 0.5


def final_score(psnr_db: float, runtime_ms: float) -> float:
    """Return PSNR + α·(0.2 − clip(runtime, 0.03, 5)), runtime in seconds, α = 20 up to 0.2 s and 0.5 above."""
    runtime_s = runtime_ms / 1000
    alpha = FAST_ALPHA if runtime_s <= FAST_S else SLOW_ALPHA
    return psnr_db + alpha * (FAST_S - min(max(runtime_s, CLIP_S[0]), CLIP_S[1]))
