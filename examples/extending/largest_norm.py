"""Keeps the tokens with the largest norm, which is cheap and ignores the rest of the image."""

from encoderlab.patch_tokens.reducer import CompressedTokens, TokenReducer, selected


class LargestNorm(TokenReducer):
    """The k tokens with the largest L2 norm, in reading order."""

    name = "largest_norm"

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        chosen = tokens.norm(dim=-1).topk(budget[1], dim=1).indices.sort(dim=1).values
        return selected(tokens, chosen, grid)
