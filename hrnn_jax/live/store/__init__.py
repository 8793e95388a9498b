"""Where the states of live users are kept: a file or a database."""
