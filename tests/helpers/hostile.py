"""A name as nobody should use it: markup of pages and terminals, quotes, control characters, and long."""

HOSTILE = "<script>alert(1)</script>[bold]x[/bold]\"'</script><!--\u202egnp.exe\u2028\x1b[31m&amp;" + "w" * 200
