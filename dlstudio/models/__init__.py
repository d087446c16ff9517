"""Small reference networks, plain `nn.Module`s."""
