"""Names of the rules by which kernels get their first values; `lower_flax` draws them, recipes choose one."""

# The factors on √(1 / fan) of normally distributed kernels: He et al. 2015, and Glorot and Bengio 2010 (AISTATS),
# whose fan is the mean of both sides.
INITIALISERS = ("he", "xavier")
