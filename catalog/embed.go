// Package catalog holds Slipway's data: recipes and locks of Kubernetes releases, and the operating systems that hosts
// may run. It must hold no logic: packages that need the data read it from FS.
package catalog

import "embed"

// FS is the catalog as it was when the program was built: releases/*.yaml and os/*.yaml.
//
//go:embed releases os
var FS embed.FS
