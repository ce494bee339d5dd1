package gateway

import (
	"net/http"
	"strings"
)

// securityHeaders are on every answer. A route that serves a page sets a Content-Security-Policy of its own.
func securityHeaders() map[string]string {
	return map[string]string{
		"Strict-Transport-Security":    "max-age=31536000",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "no-referrer",
		"Content-Security-Policy":      "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cross-Origin-Embedder-Policy": "require-corp",
		"Permissions-Policy":           "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), usb=()",
	}
}

// secureHeader puts the security headers on an answer, before anyone else has a say.
func secureHeader(header http.Header, path string) {
	for name, value := range securityHeaders() {
		header.Set(name, value)
	}
	if strings.HasPrefix(path, "/slipway/") {
		header.Set("Cache-Control", "no-store")
	}
}
