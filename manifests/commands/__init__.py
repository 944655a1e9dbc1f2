"""The commands that freeze, check, compare, export and show sets; what the commands of all packages share."""
