"""What the command line does, a module per command. The parsing of arguments is in cli.py."""
