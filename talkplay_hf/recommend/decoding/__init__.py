"""The block decoder: one prefill, then beams, samples or all tracks as a tree of tokens."""
