"""Make training pairs of photographs: match, align, cut and judge patches, split by scene, write."""
