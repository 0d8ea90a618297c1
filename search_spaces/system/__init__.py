"""Services of the operating system that all packages need: files, locks, memory, standard error."""
