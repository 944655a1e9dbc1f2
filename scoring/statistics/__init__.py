"""What methods are fitted on: statistics of the training features, streamed, each measured once."""
