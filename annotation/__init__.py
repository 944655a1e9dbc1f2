"""Human work: showing candidates to annotators, keeping their decisions, and agreeing on verdicts."""
