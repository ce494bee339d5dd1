package oidctest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
)

// signed gives a token as an honest provider makes it.
func (p *Provider) signed(claims map[string]any) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return rs256(p.key, p.keyID, claims)
}

// Foreign is for Provider.Sign: a key that is not the provider's signs, under the ID of one that is.
func Foreign(p *Provider, claims map[string]any) string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return rs256(key, p.keyID, claims)
}

// None is for Provider.Sign: nobody signs, and the token says so.
func None(_ *Provider, claims map[string]any) string {
	return part(map[string]string{"alg": "none", "typ": "JWT"}) + "." + part(claims) + "."
}

// Confused is for Provider.Sign: the public key, which everyone knows, is used as the secret of HS256.
func Confused(p *Provider, claims map[string]any) string {
	public, err := x509.MarshalPKIXPublicKey(&p.key.PublicKey)
	if err != nil {
		panic(err)
	}
	text := part(map[string]string{"alg": "HS256", "typ": "JWT", "kid": p.keyID}) + "." + part(claims)
	return text + "." + encode(hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), []byte(text)))
}

// Shared is for Provider.Sign: the client's secret signs with HS256, as the protocol would let a provider do.
func Shared(_ *Provider, claims map[string]any) string {
	text := part(map[string]string{"alg": "HS256", "typ": "JWT"}) + "." + part(claims)
	return text + "." + encode(hs256([]byte(ClientSecret), []byte(text)))
}

func rs256(key *rsa.PrivateKey, keyID string, claims map[string]any) string {
	text := part(map[string]string{"alg": "RS256", "typ": "JWT", "kid": keyID}) + "." + part(claims)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		panic(err)
	}
	return text + "." + encode(signature)
}

func part(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return encode(b)
}
