"""Learned data-generation networks (DGN): one small autoencoder per class turns images into adversarial
ones in one forward pass.

Source: "Improving Robustness of Deep Learning Systems with Fast and Customizable Adversarial Data
Generation", the repository FastCustomizableCAE/DeepCustom. All of it is in the pixels of the original,
in [0, 1].
"""

# Custom loss → the analysis of the target that it needs, also the name of its file; "" of none.
ANALYSES = {"lrp": "relevance", "nce": "", "susp": "suspicion"}
