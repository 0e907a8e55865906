"""A VLM judged by its answers: encoder, token reduction, projector and LLM.

Stands below the jobs: alignment and compression may ask it for answers.
"""
