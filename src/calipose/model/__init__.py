"""The network of the paper: backbone, Keypoint Query Encoding, Pose Query Encoding (needs torch)."""
