// Package oidc owns logging in with the organisation's directory over OpenID Connect: the authorization code flow
// with PKCE, the checks of what the provider answers, and the User that stands for a person of the directory. It must
// never believe a claim that the provider did not sign for this server and this login, and never say what a person may do.
package oidc
