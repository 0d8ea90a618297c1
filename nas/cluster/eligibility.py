"""Whether an agent fits a search: every one is checked before its first job, and refused with a reason."""

from nas.cluster.messages import Facts, Terms

# By so much clocks may differ: certificates and the dates of records rest on them.
MOST_CLOCK_S = 120.0


def misfit(facts: Facts, terms: Terms, now_s: float) -> str:
    """Return why an agent does not fit, in one sentence; nothing where it does."""
    if facts.code != terms.code:
        return (
            f"it runs other code of isp-nas ({facts.code}) than the search ({terms.code}); install the same version "
            "on both machines."
        )
    for name, wanted in terms.versions.items():
        if (has := facts.versions.get(name)) != wanted:
            return f"it has {name} {has or 'not at all'}, the search has {wanted}; install the same version."
    if facts.backend != terms.backend:
        return (
            f"it computes on {facts.backend}, and this study is trained on {terms.backend}: figures of the two are not "
            "compared; start a study of its own for it."
        )
    if facts.memory_bytes is not None and facts.memory_bytes < terms.least_memory_bytes:
        return (
            f"it has {_gb(facts.memory_bytes)} of memory for a training, and the smallest network takes "
            f"{_gb(terms.least_memory_bytes)}."
        )
    if abs(facts.now_s - now_s) > MOST_CLOCK_S:
        return f"its clock is {abs(facts.now_s - now_s):.0f} s {'ahead' if facts.now_s > now_s else 'behind'}; set it."
    return ""


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB"
