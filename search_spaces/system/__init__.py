"""What all packages need of the machine: files, locks, memory, its standard error."""
