"""What several test modules share: phantoms, files of cases, stand-ins."""
