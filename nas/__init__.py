"""Search for, train, evaluate and export learned ISPs."""
