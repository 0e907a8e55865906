"""What every job uses: settings, results, run folders, atomic writes, progress. No tensors."""
