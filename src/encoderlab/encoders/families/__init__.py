"""One adapter per family of vision encoders: how its tower is loaded, which tokens are special, and
which vector stands for the image. What they share is in `encoders.vision`.
"""
