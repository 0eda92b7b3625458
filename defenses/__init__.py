"""What is done with the network's logits: training objectives and refusal thresholds."""
