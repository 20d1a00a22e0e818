/* Every function with nothing, too much and nonsense: the standard's codes, and no crash. */
#include "host.h"

static CK_SLOT_ID slot = 1;

/* Each pointer of the list is set: nobody looks before calling. */
static void every_function_is_there(void)
{
    HOLDS(p11->version.major == 2 && p11->version.minor == 40);
    CK_FUNCTION_LIST *list = NULL;
    IS(CKR_OK, p11->C_GetFunctionList(&list));
    HOLDS(list == p11);
    IS(CKR_ARGUMENTS_BAD, p11->C_GetFunctionList(NULL));
    void **first = (void **)&p11->C_Initialize;
    void **end = (void **)((char *)p11 + sizeof *p11);
    for (void **function = first; function < end; function++)
        HOLDS(*function);
}

static void nothing_is_answered_before_c_initialize(void)
{
    CK_RV no = CKR_CRYPTOKI_NOT_INITIALIZED;
    unsigned char byte[8];
    CK_ULONG count = 1;
    CK_OBJECT_HANDLE handle;
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    CK_INFO info;
    CK_SLOT_INFO slot_info;
    CK_TOKEN_INFO token;
    CK_MECHANISM_INFO how;
    CK_SESSION_INFO session;
    IS(no, p11->C_Finalize(NULL));
    IS(no, p11->C_GetInfo(&info));
    IS(no, p11->C_GetSlotList(CK_TRUE, &slot, &count));
    IS(no, p11->C_GetSlotInfo(slot, &slot_info));
    IS(no, p11->C_GetTokenInfo(slot, &token));
    IS(no, p11->C_GetMechanismList(slot, NULL, &count));
    IS(no, p11->C_GetMechanismInfo(slot, CKM_ECDSA, &how));
    IS(no, p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &handle));
    IS(no, p11->C_CloseSession(1));
    IS(no, p11->C_CloseAllSessions(slot));
    IS(no, p11->C_GetSessionInfo(1, &session));
    IS(no, p11->C_Login(1, CKU_USER, byte, 4));
    IS(no, p11->C_Logout(1));
    IS(no, p11->C_GetAttributeValue(1, 1, NULL, 0));
    IS(no, p11->C_FindObjectsInit(1, NULL, 0));
    IS(no, p11->C_FindObjects(1, &handle, 1, &count));
    IS(no, p11->C_FindObjectsFinal(1));
    IS(no, p11->C_SignInit(1, &mechanism, 1));
    IS(no, p11->C_Sign(1, byte, 8, byte, &count));
    IS(no, p11->C_SignUpdate(1, byte, 8));
    IS(no, p11->C_SignFinal(1, byte, &count));
}

static CK_RV create_mutex(void **mutex) { *mutex = NULL; return CKR_OK; }
static CK_RV use_mutex(void *mutex) { (void)mutex; return CKR_OK; }

static void c_initialize_takes_what_it_can_serve(void)
{
    CK_C_INITIALIZE_ARGS reserved = {.pReserved = &reserved};
    CK_C_INITIALIZE_ARGS one = {.CreateMutex = create_mutex, .flags = CKF_OS_LOCKING_OK};
    CK_C_INITIALIZE_ARGS own = {create_mutex, use_mutex, use_mutex, use_mutex, 0, NULL};
    CK_C_INITIALIZE_ARGS either = {create_mutex, use_mutex, use_mutex, use_mutex, CKF_OS_LOCKING_OK, NULL};
    CK_C_INITIALIZE_ARGS none = {.flags = CKF_LIBRARY_CANT_CREATE_OS_THREADS};
    IS(CKR_ARGUMENTS_BAD, p11->C_Initialize(&reserved));
    IS(CKR_ARGUMENTS_BAD, p11->C_Initialize(&one));
    IS(CKR_CANT_LOCK, p11->C_Initialize(&own));
    IS(CKR_OK, p11->C_Initialize(&either));
    IS(CKR_CRYPTOKI_ALREADY_INITIALIZED, p11->C_Initialize(NULL));
    IS(CKR_ARGUMENTS_BAD, p11->C_Finalize(&none));
    IS(CKR_OK, p11->C_Finalize(NULL));
    IS(CKR_OK, p11->C_Initialize(&none));
    IS(CKR_OK, p11->C_Finalize(NULL));
    IS(CKR_OK, p11->C_Initialize(NULL));
}

static void null_pointers_are_bad_arguments(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    CK_RV bad = CKR_ARGUMENTS_BAD;
    CK_ULONG count = 1;
    CK_OBJECT_HANDLE handle;
    CK_ATTRIBUTE valueless = {CKA_LABEL, NULL, 4};
    IS(bad, p11->C_GetInfo(NULL));
    IS(bad, p11->C_GetSlotList(CK_TRUE, NULL, NULL));
    IS(bad, p11->C_GetSlotList(CK_TRUE, &slot, NULL));
    IS(bad, p11->C_GetSlotInfo(slot, NULL));
    IS(bad, p11->C_GetTokenInfo(slot, NULL));
    IS(bad, p11->C_GetMechanismList(slot, NULL, NULL));
    IS(bad, p11->C_GetMechanismInfo(slot, CKM_ECDSA, NULL));
    IS(bad, p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, NULL));
    IS(bad, p11->C_GetSessionInfo(session, NULL));
    IS(bad, p11->C_Login(session, CKU_USER, NULL, 4));
    IS(bad, p11->C_GetAttributeValue(session, key, NULL, 1));
    IS(bad, p11->C_FindObjectsInit(session, NULL, 1));
    IS(bad, p11->C_FindObjectsInit(session, &valueless, 1));
    IS(CKR_OK, p11->C_FindObjectsInit(session, NULL, 0));
    IS(bad, p11->C_FindObjects(session, NULL, 1, &count));
    IS(bad, p11->C_FindObjects(session, &handle, 1, NULL));
    IS(CKR_OK, p11->C_FindObjects(session, NULL, 0, &count));
    HOLDS(count == 0);
    IS(CKR_OK, p11->C_FindObjectsFinal(session));
    IS(bad, p11->C_SignInit(session, NULL, key));
    /* These end the signature: section 5.11. */
    unsigned char signature[64];
    IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, key));
    IS(bad, p11->C_Sign(session, signature, 4, signature, NULL));
    IS(CKR_OPERATION_NOT_INITIALIZED, p11->C_SignFinal(session, signature, &count));
    count = sizeof signature;
    IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, key));
    IS(bad, p11->C_Sign(session, NULL, 4, signature, &count));
    IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, key));
    IS(bad, p11->C_SignUpdate(session, NULL, 4));
    IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, key));
    IS(bad, p11->C_SignFinal(session, signature, NULL));
}

static void lengths_that_no_memory_has_are_bad_arguments(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    CK_RV bad = CKR_ARGUMENTS_BAD;
    unsigned char byte[64];
    const CK_ULONG lengths[] = {~0UL, ~0UL / 2 + 1, ~0UL / 3};
    for (int i = 0; i < 3; i++) {
        CK_ULONG length = lengths[i], room = sizeof byte;
        CK_ATTRIBUTE attribute = {CKA_LABEL, byte, ~0UL};
        CK_MECHANISM long_parameter = {CKM_ECDSA, byte, ~0UL};
        IS(bad, p11->C_GetAttributeValue(session, key, &attribute, length));
        IS(bad, p11->C_FindObjectsInit(session, &attribute, length));
        IS(bad, p11->C_FindObjectsInit(session, &attribute, 1));
        IS(CKR_MECHANISM_PARAM_INVALID, p11->C_SignInit(session, &long_parameter, key));
        if (length > ~0UL / 2) {
            IS(bad, p11->C_Login(session, CKU_USER, byte, length));
            IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, key));
            IS(bad, p11->C_Sign(session, byte, length, byte, &room));
            IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, key));
            IS(bad, p11->C_SignUpdate(session, byte, length));
        }
    }
}

static void handles_and_names_that_mean_nothing_are_named(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    const CK_ULONG nothing[] = {0, 2, 4711, ~0UL};
    unsigned char byte[64];
    CK_ULONG count = sizeof byte;
    CK_OBJECT_HANDLE handle;
    CK_SLOT_INFO slot_info;
    CK_TOKEN_INFO token;
    CK_MECHANISM_INFO how;
    CK_SESSION_INFO info;
    CK_MECHANISM ecdsa = {CKM_ECDSA, NULL, 0};
    for (int i = 0; i < 4; i++) {
        CK_ULONG no = nothing[i];
        IS(CKR_SLOT_ID_INVALID, p11->C_GetSlotInfo(no, &slot_info));
        IS(CKR_SLOT_ID_INVALID, p11->C_GetTokenInfo(no, &token));
        IS(CKR_SLOT_ID_INVALID, p11->C_GetMechanismList(no, NULL, &count));
        IS(CKR_SLOT_ID_INVALID, p11->C_GetMechanismInfo(no, CKM_ECDSA, &how));
        IS(CKR_SLOT_ID_INVALID, p11->C_OpenSession(no, CKF_SERIAL_SESSION, NULL, NULL, &handle));
        IS(CKR_SLOT_ID_INVALID, p11->C_CloseAllSessions(no));
        IS(CKR_MECHANISM_INVALID, p11->C_GetMechanismInfo(slot, no + 0x9000, &how));
        IS(CKR_MECHANISM_INVALID, begin(session, no + 0x9000, key));
        if (no == session)
            continue;
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_CloseSession(no));
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_GetSessionInfo(no, &info));
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_Login(no, CKU_USER, byte, 4));
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_Logout(no));
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_GetAttributeValue(no, key, NULL, 0));
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_FindObjectsInit(no, NULL, 0));
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_FindObjects(no, &handle, 1, &count));
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_FindObjectsFinal(no));
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_SignInit(no, &ecdsa, key));
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_Sign(no, byte, 4, byte, &count));
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_SignUpdate(no, byte, 4));
        IS(CKR_SESSION_HANDLE_INVALID, p11->C_SignFinal(no, byte, &count));
    }
    IS(CKR_OBJECT_HANDLE_INVALID, p11->C_GetAttributeValue(session, 4711, NULL, 0));
    IS(CKR_KEY_HANDLE_INVALID, begin(session, CKM_ECDSA, 4711));
    IS(CKR_KEY_HANDLE_INVALID, begin(session, CKM_ECDSA, find(session, CKO_CERTIFICATE, WITH_EC)));
    IS(CKR_KEY_FUNCTION_NOT_PERMITTED, begin(session, CKM_ECDSA, find(session, CKO_PUBLIC_KEY, WITH_EC)));
}

static void sessions_are_read_only_and_any_pin_logs_in(CK_SESSION_HANDLE session)
{
    CK_SESSION_HANDLE other;
    CK_SESSION_INFO info;
    CK_FLAGS write = CKF_SERIAL_SESSION | CKF_RW_SESSION;
    unsigned char pin[] = "1234";
    IS(CKR_SESSION_PARALLEL_NOT_SUPPORTED, p11->C_OpenSession(slot, 0, NULL, NULL, &other));
    IS(CKR_TOKEN_WRITE_PROTECTED, p11->C_OpenSession(slot, write, NULL, NULL, &other));
    IS(CKR_USER_NOT_LOGGED_IN, p11->C_Logout(session));
    IS(CKR_SESSION_READ_ONLY_EXISTS, p11->C_Login(session, CKU_SO, pin, 4));
    IS(CKR_OPERATION_NOT_INITIALIZED, p11->C_Login(session, CKU_CONTEXT_SPECIFIC, pin, 4));
    IS(CKR_USER_TYPE_INVALID, p11->C_Login(session, 77, pin, 4));
    IS(CKR_OK, p11->C_Login(session, CKU_USER, pin, 4));
    IS(CKR_USER_ALREADY_LOGGED_IN, p11->C_Login(session, CKU_USER, NULL, 0));
    IS(CKR_OK, p11->C_GetSessionInfo(session, &info));
    HOLDS(info.state == CKS_RO_USER_FUNCTIONS && info.flags == CKF_SERIAL_SESSION && info.slotID == slot);
    IS(CKR_OK, p11->C_Logout(session));
    IS(CKR_OK, p11->C_GetSessionInfo(session, &info));
    HOLDS(info.state == CKS_RO_PUBLIC_SESSION);
    /* With the last session ends the login. */
    IS(CKR_OK, p11->C_Login(session, CKU_USER, NULL, 0));
    IS(CKR_OK, p11->C_CloseAllSessions(slot));
    IS(CKR_SESSION_HANDLE_INVALID, p11->C_GetSessionInfo(session, &info));
    session = open_session();
    IS(CKR_OK, p11->C_GetSessionInfo(session, &info));
    HOLDS(info.state == CKS_RO_PUBLIC_SESSION);
    IS(CKR_OK, p11->C_CloseSession(session));
    IS(CKR_SESSION_HANDLE_INVALID, p11->C_CloseSession(session));
}

static void what_is_not_offered_says_so(void)
{
    CK_RV no = CKR_FUNCTION_NOT_SUPPORTED;
    IS(no, p11->C_InitToken(0, 0, 0, 0));
    IS(no, p11->C_InitPIN(0, 0, 0));
    IS(no, p11->C_SetPIN(0, 0, 0, 0, 0));
    IS(no, p11->C_GetOperationState(0, 0, 0));
    IS(no, p11->C_SetOperationState(0, 0, 0, 0, 0));
    IS(no, p11->C_CreateObject(0, 0, 0, 0));
    IS(no, p11->C_CopyObject(0, 0, 0, 0, 0));
    IS(no, p11->C_DestroyObject(0, 0));
    IS(no, p11->C_GetObjectSize(0, 0, 0));
    IS(no, p11->C_SetAttributeValue(0, 0, 0, 0));
    IS(no, p11->C_EncryptInit(0, 0, 0));
    IS(no, p11->C_Encrypt(0, 0, 0, 0, 0));
    IS(no, p11->C_EncryptUpdate(0, 0, 0, 0, 0));
    IS(no, p11->C_EncryptFinal(0, 0, 0));
    IS(no, p11->C_DecryptInit(0, 0, 0));
    IS(no, p11->C_Decrypt(0, 0, 0, 0, 0));
    IS(no, p11->C_DecryptUpdate(0, 0, 0, 0, 0));
    IS(no, p11->C_DecryptFinal(0, 0, 0));
    IS(no, p11->C_DigestInit(0, 0));
    IS(no, p11->C_Digest(0, 0, 0, 0, 0));
    IS(no, p11->C_DigestUpdate(0, 0, 0));
    IS(no, p11->C_DigestKey(0, 0));
    IS(no, p11->C_DigestFinal(0, 0, 0));
    IS(no, p11->C_SignRecoverInit(0, 0, 0));
    IS(no, p11->C_SignRecover(0, 0, 0, 0, 0));
    IS(no, p11->C_VerifyInit(0, 0, 0));
    IS(no, p11->C_Verify(0, 0, 0, 0, 0));
    IS(no, p11->C_VerifyUpdate(0, 0, 0));
    IS(no, p11->C_VerifyFinal(0, 0, 0));
    IS(no, p11->C_VerifyRecoverInit(0, 0, 0));
    IS(no, p11->C_VerifyRecover(0, 0, 0, 0, 0));
    IS(no, p11->C_DigestEncryptUpdate(0, 0, 0, 0, 0));
    IS(no, p11->C_DecryptDigestUpdate(0, 0, 0, 0, 0));
    IS(no, p11->C_SignEncryptUpdate(0, 0, 0, 0, 0));
    IS(no, p11->C_DecryptVerifyUpdate(0, 0, 0, 0, 0));
    IS(no, p11->C_GenerateKey(0, 0, 0, 0, 0));
    IS(no, p11->C_GenerateKeyPair(0, 0, 0, 0, 0, 0, 0, 0));
    IS(no, p11->C_WrapKey(0, 0, 0, 0, 0, 0));
    IS(no, p11->C_UnwrapKey(0, 0, 0, 0, 0, 0, 0, 0));
    IS(no, p11->C_DeriveKey(0, 0, 0, 0, 0, 0));
    IS(no, p11->C_SeedRandom(0, 0, 0));
    IS(no, p11->C_GenerateRandom(0, 0, 0));
    IS(no, p11->C_WaitForSlotEvent(0, 0, 0));
    IS(CKR_FUNCTION_NOT_PARALLEL, p11->C_GetFunctionStatus(0));
    IS(CKR_FUNCTION_NOT_PARALLEL, p11->C_CancelFunction(0));
}

void arguments(void)
{
    every_function_is_there();
    nothing_is_answered_before_c_initialize();
    what_is_not_offered_says_so();
    c_initialize_takes_what_it_can_serve();
    what_is_not_offered_says_so();
    CK_SESSION_HANDLE session = open_session();
    CK_OBJECT_HANDLE key = find(session, CKO_PRIVATE_KEY, WITH_EC);
    null_pointers_are_bad_arguments(session, key);
    lengths_that_no_memory_has_are_bad_arguments(session, key);
    handles_and_names_that_mean_nothing_are_named(session, key);
    sessions_are_read_only_and_any_pin_logs_in(session);
    IS(CKR_OK, p11->C_Finalize(NULL));
}
