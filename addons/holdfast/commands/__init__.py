"""What the subcommands of `holdfast` do once the command line is parsed; each returns its exit status."""
