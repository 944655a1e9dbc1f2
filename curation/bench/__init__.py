"""`bench download`: the stage `download` beside a plain client, img2dataset and the machine's own limits."""
