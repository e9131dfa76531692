"""People painted by numbers: exact keypoints without photographs."""
