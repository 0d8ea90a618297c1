"""Sources of runtime measurements: this machine, an Android phone, and files that other tools wrote."""
