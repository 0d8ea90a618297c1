"""How pairs may be flipped when crops are drawn of them."""

# The flips that a switch allows, as (rows, columns).
FLIPS: dict[str, tuple[tuple[bool, bool], ...]] = {
    "none": ((False, False),),
    "horizontal": ((False, False), (False, True)),
    "both": ((False, False), (False, True), (True, False), (True, True)),
}
