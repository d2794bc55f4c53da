"""The only room that parses arguments, prints, and configures logging."""
