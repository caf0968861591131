"""The command line of kubesim: words in, words out. What is done is in `kubesim.cluster`."""
