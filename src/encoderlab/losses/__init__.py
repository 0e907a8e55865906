"""Loss functions: from tensors to a scalar."""
