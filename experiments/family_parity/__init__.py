"""Whether split models compute what transformers computes, for every published size."""
