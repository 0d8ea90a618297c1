"""The command line. One file per command parses, prints and draws; nothing else imports Rich or Typer."""
