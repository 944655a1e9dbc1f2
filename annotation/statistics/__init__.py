"""What the annotators' answers say about the annotators: agreement, confusion, a second opinion, a plan."""
