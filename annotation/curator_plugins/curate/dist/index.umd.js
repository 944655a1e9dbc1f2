// Else an advertisement lies over the grid of the FiftyOne App (1.22) and takes all clicks until it is dismissed.
localStorage.setItem("fiftyone-enterprise-tooltip-seen", "true");
