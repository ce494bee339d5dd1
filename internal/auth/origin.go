package auth

import (
	"net/http"
	"strings"
)

// SafeOrigin says that a browser sent the request from a page of this very server, or that the request cannot change
// anything. Only then may a cookie count: a browser adds it to requests that other pages make it send.
func SafeOrigin(r *http.Request) bool {
	reads := (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Header.Get("Upgrade") == ""
	return reads || SameOrigin(r)
}

// SameOrigin says that the request names the server itself as its origin. Without an Origin header the browser must
// say that it is the same.
func SameOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		sites := r.Header.Values("Sec-Fetch-Site")
		return len(sites) == 1 && sites[0] == "same-origin"
	}
	return len(origins) == 1 && r.Host != "" && strings.EqualFold(origins[0], "https://"+r.Host)
}
