package step

import "strings"

// HostsPath is where a host finds names before it asks anybody.
const HostsPath = "/etc/hosts"

// HostRecordComment is at the end of a line of HostsPath that is ours.
const HostRecordComment = " # by Slipway"

// WithoutHostRecords takes our lines out of the text of HostsPath.
func WithoutHostRecords(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(strings.TrimRight(line, "\n"), HostRecordComment) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
