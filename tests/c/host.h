/* A program that loads the PKCS#11 module as a web server does. Whatever it did not expect ends it
 * with exit code 1 and a line that says where. */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

/* The functions of the module, once it is loaded. */
extern CK_FUNCTION_LIST *p11;

/* The names of the certificates whose keys are signed with; the test made them. */
#define WITH_EC "ec"
#define WITH_RSA "rsa"

/* Ends the program unless a call answers what it should. */
#define IS(expected, call) is_((expected), (call), #call, __FILE__, __LINE__)
/* Ends the program unless something holds. */
#define HOLDS(what) ((what) ? (void)0 : fails_(#what, __FILE__, __LINE__))

void is_(CK_RV expected, CK_RV got, const char *call, const char *file, int line);
void fails_(const char *what, const char *file, int line);

/* dlopen and dlclose. */
void load(const char *path);
void unload(void);

/* C_Initialize as libp11 and pkcs11-provider call it. */
CK_RV initialize(void);
CK_SESSION_HANDLE open_session(void);
/* The one object of this class and name. */
CK_OBJECT_HANDLE find(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label);
/* Begins a signature. */
CK_RV begin(CK_SESSION_HANDLE session, CK_MECHANISM_TYPE mechanism, CK_OBJECT_HANDLE key);
/* Signs a message of its own with SHA-256 and has OpenSSL verify it by CKA_PUBLIC_KEY_INFO. */
void sign_and_verify(CK_SESSION_HANDLE session, const char *label, unsigned number);
/* How many descriptors are open. */
int descriptors(void);

/* What main knows by name. */
void arguments(void);
void attributes(void);
void operations(void);
void forks(void);
void daemonised(void);
void threads(void);
void waiting(void);
void renewal(void);
void reload(const char *path);

#endif
