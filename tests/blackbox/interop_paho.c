/*
 * A client made with the Eclipse Paho C library, for test_interop.py.
 *
 *     interop_paho URI VERSION CA CLIENT_ID subscribe TOPIC     a session with a subscription of QoS 2 is
 * left behind interop_paho URI VERSION CA CLIENT_ID publish TOPIC N     N messages "0", "1", ... with QoS 2
 * and 1 in turn interop_paho URI VERSION CA CLIENT_ID receive TOPIC N     comes back to the session and
 * prints N messages
 *
 * VERSION is 4 or 5; CA is a file, or "" for plaintext. "present" is printed when the session was there. The
 * exit status is 0 when all went well, and the library's code is said on standard error when not.
 */
#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPIRY_S   3600
#define TIMEOUT_MS 10000

/* Ends the program with what was tried and the library's code for it. */
static void check(int code, const char *what)
{
    if (code == MQTTCLIENT_SUCCESS)
        return;
    fprintf(stderr, "%s: %d\n", what, code);
    exit(1);
}

/* Connects without a clean session, and says whether one was there. */
static void connect_client(MQTTClient client, int version, const char *ca)
{
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions options5 = MQTTClient_connectOptions_initializer5;
    MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;
    MQTTProperties props = MQTTProperties_initializer;
    if (version == 5)
        options = options5;
    options.MQTTVersion = version;
    options.cleansession = 0;
    options.cleanstart = 0;
    tls.trustStore = ca;
    tls.verify = 1;
    if (*ca)
        options.ssl = &tls;
    if (version == 5) {
        MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL};
        expiry.value.integer4 = EXPIRY_S;
        MQTTProperties_add(&props, &expiry);
        MQTTResponse answer = MQTTClient_connect5(client, &options, &props, NULL);
        check(answer.reasonCode, "connect");
        MQTTResponse_free(answer);
        MQTTProperties_free(&props);
    } else {
        check(MQTTClient_connect(client, &options), "connect");
    }
    if (options.returned.sessionPresent)
        printf("present\n");
}

/* Subscribes with QoS 2, which must be granted. */
static void subscribe(MQTTClient client, int version, const char *topic)
{
    if (version != 5) {
        check(MQTTClient_subscribe(client, topic, 2), "subscribe");
        return;
    }
    MQTTResponse answer = MQTTClient_subscribe5(client, topic, 2, NULL, NULL);
    check(answer.reasonCode == 2 ? 0 : answer.reasonCode ? answer.reasonCode : -1, "subscribe");
    MQTTResponse_free(answer);
}

/* Publishes, each message completely before the next. */
static void publish(MQTTClient client, int version, const char *topic, int count)
{
    for (int i = 0; i < count; i++) {
        char text[20];
        MQTTClient_deliveryToken token = 0;
        int len = snprintf(text, sizeof text, "%d", i), qos = 2 - i % 2;
        if (version == 5) {
            MQTTResponse answer = MQTTClient_publish5(client, topic, len, text, qos, 0, NULL, &token);
            check(answer.reasonCode, "publish");
            MQTTResponse_free(answer);
        } else {
            check(MQTTClient_publish(client, topic, len, text, qos, 0, &token), "publish");
        }
        check(MQTTClient_waitForCompletion(client, token, TIMEOUT_MS), "completion");
    }
}

/* Prints messages as they come, with their QoS. */
static void receive(MQTTClient client, int count)
{
    for (int i = 0; i < count; i++) {
        char *topic = NULL;
        int len;
        MQTTClient_message *message = NULL;
        check(MQTTClient_receive(client, &topic, &len, &message, TIMEOUT_MS), "receive");
        if (!message)
            check(-1, "message");
        printf("%s %.*s %d\n", topic, message->payloadlen, (char *)message->payload, message->qos);
        MQTTClient_freeMessage(&message);
        MQTTClient_free(topic);
    }
}

int main(int argc, char **argv)
{
    if (argc < 7)
        return 2;
    int version = atoi(argv[2]), count = argc > 7 ? atoi(argv[7]) : 0;
    MQTTClient client;
    MQTTClient_createOptions options = MQTTClient_createOptions_initializer;
    options.MQTTVersion = version;
    check(
        MQTTClient_createWithOptions(&client, argv[1], argv[4], MQTTCLIENT_PERSISTENCE_NONE, NULL, &options),
        "create");
    connect_client(client, version, argv[3]);
    if (strcmp(argv[5], "subscribe") == 0)
        subscribe(client, version, argv[6]);
    else if (strcmp(argv[5], "publish") == 0)
        publish(client, version, argv[6], count);
    else
        receive(client, count);
    if (version == 5)
        check(MQTTClient_disconnect5(client, TIMEOUT_MS, MQTTREASONCODE_SUCCESS, NULL), "disconnect");
    else
        check(MQTTClient_disconnect(client, TIMEOUT_MS), "disconnect");
    MQTTClient_destroy(&client);
    return 0;
}
