// Package output owns what every noun of the command line shares: the connection to the API server, waiting by
// watch, tables and the other output formats, live progress and exit codes. It must never decide what a command does.
package output
