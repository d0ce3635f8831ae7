// rwkv-edge generate.
