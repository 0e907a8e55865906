"""Components of rows: exact where they can be, and nearly so where they cannot."""

import torch

from encoderlab.models import principal
from encoderlab.models.principal import principal_components


def test_they_are_those_of_the_covariance():
    torch.manual_seed(0)
    rows = torch.randn(200, 6) @ torch.diag(torch.tensor([9.0, 5, 3, 1, 0.5, 0.1])) + 4
    mean, basis, values = principal_components(rows, 3)
    assert torch.allclose(mean, rows.double().mean(dim=0))
    assert torch.allclose(basis.T @ basis, torch.eye(3).double(), atol=1e-10)
    spread = ((rows.double() - mean) @ basis).square().mean(dim=0)
    assert torch.allclose(spread, values[:3])
    assert values.tolist() == sorted(values.tolist(), reverse=True)


def test_a_wide_matrix_gives_nearly_the_same_subspace(monkeypatch):
    torch.manual_seed(0)
    rows = torch.randn(300, 8) @ torch.randn(8, 60) + 0.05 * torch.randn(300, 60)
    exact = principal_components(rows, 8)
    monkeypatch.setattr(principal, "EXACT_WIDTH", 10)
    near = principal_components(rows, 8)
    again = principal_components(rows, 8)
    assert torch.equal(near[1], again[1])
    assert torch.allclose(near[2], exact[2][:8], rtol=1e-3)
    overlap = torch.linalg.svdvals(near[1].T @ exact[1])
    assert overlap.min() > 0.999
