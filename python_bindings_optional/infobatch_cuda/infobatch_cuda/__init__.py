"""The CUDA library of InfoBatch. The package ``infobatch`` finds it here; ``infobatch.devices()`` says whether
it can be used."""
