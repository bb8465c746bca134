"""The command line: options, client, output, and the commands of the installation itself."""
