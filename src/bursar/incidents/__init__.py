"""What a human must look at, recorded in the same commit as its cause."""
