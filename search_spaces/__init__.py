"""What a network is: primitive operations, graphs, genotypes, the space of them, and the two lowerings."""
