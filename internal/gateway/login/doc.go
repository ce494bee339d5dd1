// Package login owns the routes by which people prove who they are and look after what they are logged in with: set-up,
// login, logout, sessions, tokens and passwords, and the plain pages for browsers. It must never say what a person may
// do, and never hand out a secret a second time.
package login
