"""Networks: primitive operations, graphs, genotypes, the space of them, and the lowerings to frameworks."""
