"""Commands about EncoderLab itself: ls, doctor, rerun, export, features, draw."""
