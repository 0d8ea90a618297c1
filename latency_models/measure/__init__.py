"""Where milliseconds come from: this machine, an Android phone, and files that other tools wrote."""
