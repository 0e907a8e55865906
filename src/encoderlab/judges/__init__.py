"""Outside judges: our encoders and VLMs behind the interfaces of other people's benchmarks.

Stands above the jobs: it may use a VLM and the hooks that compress one.
"""
