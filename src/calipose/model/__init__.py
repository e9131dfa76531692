"""The paper's network: backbone, Keypoint Query Encoding, Pose Query Encoding (needs torch)."""
